//! A tracepoint's program in two forms: `tp_btf`, which costs half of a raw tracepoint, where
//! vmlinux's BTF describes the tracepoint, and raw.

use aya_ebpf::{
    EbpfContext,
    programs::{BtfTracePointContext, RawTracePointContext},
};

/// The arguments of a tracepoint, which both forms get in the same way.
pub trait Arguments: EbpfContext {
    /// Argument `n`, counted from 0.
    fn at(&self, n: usize) -> u64;
}

impl Arguments for RawTracePointContext {
    #[inline(always)]
    fn at(&self, n: usize) -> u64 {
        self.arg(n)
    }
}

impl Arguments for BtfTracePointContext {
    #[inline(always)]
    fn at(&self, n: usize) -> u64 {
        self.arg(n)
    }
}

/// Both programs of a tracepoint, which run a function.
macro_rules! tracepoint {
    ($raw:ident, $typed:ident, $run:ident) => {
        #[aya_ebpf::macros::raw_tracepoint]
        pub fn $raw(ctx: aya_ebpf::programs::RawTracePointContext) {
            $run(&ctx);
        }

        #[aya_ebpf::macros::btf_tracepoint]
        pub fn $typed(ctx: aya_ebpf::programs::BtfTracePointContext) -> i32 {
            $run(&ctx);
            0
        }
    };
}
pub(crate) use tracepoint;
