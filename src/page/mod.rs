//! HTML pages: one look, and a document that loads nothing and runs only its own script. Pure.
//!
//! Used by the console, the guide in a browser and drill's report. maud escapes every text by its type,
//! so a client's or a model's text can never become markup.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

/// The style sheet that all pages begin with.
pub const LOOK: &str = include_str!("look.css");

/// A page, and the fields that its answer has to carry.
#[derive(Debug)]
pub struct Page {
    /// The document.
    pub html: String,
    /// The policy, and what keeps others from framing and reading it.
    pub fields: Vec<(&'static str, String)>,
}

/// The style and the script of a kind of page, and the policy that permits these two and nothing else.
#[derive(Debug)]
pub struct Assets {
    style: String,
    script: &'static str,
    policy: String,
}

impl Assets {
    /// Makes the assets of a page: style beyond the common look, and a script if it is not empty.
    pub fn new(style: &str, script: &'static str) -> Self {
        let style = format!("{LOOK}{style}");
        let permit = |text: &str| match text {
            "" => "'none'".to_owned(),
            text => format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text))),
        };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            permit(script),
            permit(&style),
        );
        Assets {
            style,
            script,
            policy,
        }
    }

    /// A page: its title and what its body holds.
    pub fn page(&self, title: &str, body: &Markup) -> Page {
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    // Browsers ask for /favicon.ico otherwise.
                    link rel="icon" href="data:,";
                    // Both are constants of this program.
                    style { (PreEscaped(&self.style)) }
                }
                body {
                    (body)
                    @if !self.script.is_empty() {
                        script { (PreEscaped(self.script)) }
                    }
                }
            }
        };
        Page {
            html: document.into_string(),
            fields: vec![
                ("Content-Security-Policy", self.policy.clone()),
                ("X-Frame-Options", "DENY".to_owned()),
                ("Referrer-Policy", "no-referrer".to_owned()),
                ("Cross-Origin-Opener-Policy", "same-origin".to_owned()),
                ("Cross-Origin-Resource-Policy", "same-origin".to_owned()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_permits_its_own_style_and_script_and_nothing_else() {
        let assets = Assets::new("p { color: red }", "let x = 1 < 2 && 3 > 2;");
        let page = assets.page("a <b> & c", &html! { p { "<script>alert(1)</script>" } });
        let text = page.html;
        assert!(
            text.contains("<title>a &lt;b&gt; &amp; c</title>"),
            "{text}"
        );
        assert!(text.contains("<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"));
        let inner = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once(&format!("</{tag}>")).unwrap().0
        };
        let (_, policy) = &page.fields[0];
        for tag in ["style", "script"] {
            let hash = STANDARD.encode(Sha256::digest(inner(tag)));
            assert!(
                policy.contains(&format!("{tag}-src 'sha256-{hash}'")),
                "{policy}"
            );
        }
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
    }

    #[test]
    fn a_page_without_a_script_permits_none() {
        let page = Assets::new("", "").page("title", &html! {});
        assert!(page.fields[0].1.contains("script-src 'none'"));
        assert!(!page.html.contains("<script"));
    }
}
