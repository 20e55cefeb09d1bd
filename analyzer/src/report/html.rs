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

#[cfg(test)]
mod tests {
    use super::with_code;

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
