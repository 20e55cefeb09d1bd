//! What a keyframe says of the vCPUs' roots.

use events::{Hpa, VcpuId};

use super::{
    ReplayOptions, VmReplay,
    story::{PRESENT, Story},
};

fn replay(story: &Story) -> VmReplay {
    story.replay_as(ReplayOptions {
        keyframe_roots: true,
        ..ReplayOptions::default()
    })
}

fn roots(vm: &VmReplay) -> Vec<(VcpuId, Hpa)> {
    let roots = vm.roots().iter();
    roots.map(|(vcpu, current)| (*vcpu, current.root)).collect()
}

#[test]
fn a_vcpu_without_a_row_in_a_keyframe_has_no_root() {
    let story = Story::default()
        .root(0x7000, 4)
        .copy(0, 0x4000, 4, &[])
        .keyframe_root(0, 1, 0x4000, 4, None);
    assert_eq!(roots(&replay(&story)), [(VcpuId(0), Hpa(0x7000))]);
    let ended = replay(&story.mark(0, 1));
    assert_eq!(roots(&ended), [(VcpuId(1), Hpa(0x4000))]);
}

#[test]
fn the_roots_of_an_incomplete_keyframe_are_not_used() {
    let story = Story::default()
        .root(0x7000, 4)
        .copy(0, 0x4000, 4, &[])
        .keyframe_root(0, 0, 0x4000, 4, None)
        .mark(0, 2);
    assert_eq!(roots(&replay(&story)), [(VcpuId(0), Hpa(0x7000))]);
}

#[test]
fn a_keyframe_has_the_pdptes_of_each_pae_root_in_use() {
    let story = Story::default()
        .root(0x9000, 3)
        .copy(0, 0x5000, 2, &[(0, PRESENT | 0x6000)])
        .copy(0, 0x6000, 1, &[])
        .keyframe_root(0, 0, 0x8000, 3, Some([0x5001, 0, 0, 0x5001]))
        .mark(0, 2);
    let vm = replay(&story);
    let table = Some(Hpa(0x5000));
    let pae: Vec<_> = vm.pae_roots().collect();
    assert_eq!(pae, [(Hpa(0x8000), &[table, None, None, table])]);
    assert!(vm.whole_since().is_some());
}

#[test]
fn a_keyframe_of_an_old_trace_leaves_the_roots_as_they_are() {
    let story = Story::default()
        .root(0x7000, 4)
        .copy(0, 0x7000, 4, &[])
        .mark(0, 1);
    let vm = story.replay(false);
    assert_eq!(roots(&vm), [(VcpuId(0), Hpa(0x7000))]);
    assert_eq!(vm.whole_since(), None);
}
