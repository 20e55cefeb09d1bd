//! Text within HTML.

/// What would be markup is text.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// Escaped, with what is between two backticks as code.
pub(crate) fn with_code(text: impl AsRef<str>) -> String {
    let text = escaped(text.as_ref());
    let mut html = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('`') {
        let Some((code, after)) = after.split_once('`') else {
            break;
        };
        html += before;
        html += "<code>";
        html += code;
        html += "</code>";
        rest = after;
    }
    html + rest
}

/// A word of more characters than this may be broken.
const LONG: usize = 24;

/// Escaped; a long name may go on in the next line, between its parts.
pub(crate) fn breakable(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.len() {
        ..=LONG => escaped(word),
        _ => parts(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn parts(word: &str) -> String {
    let ends = "_/:.,+(";
    let mut html = String::new();
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        html += &escaped(c.encode_utf8(&mut [0; 4]));
        // `::` and `__` stay in one piece.
        let next = chars.peek().copied();
        if ends.contains(c) && next.is_some_and(|next| next != c) {
            html += "<wbr>";
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::{breakable, with_code};

    #[test]
    fn long_names_may_break_between_their_words_only() {
        for (text, html) in [
            ("0xffffffff9787e5d0, kvm_mmu", "0xffffffff9787e5d0, kvm_mmu"),
            (
                "a raw_tracepoint::__kvm_mmu_prepare<b>",
                "a raw_<wbr>tracepoint::<wbr>__<wbr>kvm_<wbr>mmu_<wbr>prepare&lt;b&gt;",
            ),
        ] {
            assert_eq!(breakable(text), html);
        }
    }

    #[test]
    fn commands_are_code_and_nothing_is_markup() {
        let html = with_code("<b> `analyzer explain` shows `it`");
        let code = "&lt;b&gt; <code>analyzer explain</code> shows <code>it</code>";
        assert_eq!(html, code);
        assert_eq!(
            with_code("one ` `<i>` alone`"),
            "one <code> </code>&lt;i&gt;<code> alone</code>"
        );
        assert_eq!(with_code("`a` and `"), "<code>a</code> and `");
    }
}
