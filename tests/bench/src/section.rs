//! Sections of pages that people write too.

use std::path::Path;

use anyhow::{Context, Result};

/// Keeps a file in `folder`, which is made if it is not there.
pub(crate) fn keep(folder: &str, name: &str, text: &str) -> Result<()> {
    std::fs::create_dir_all(folder).context(folder.to_owned())?;
    let file = Path::new(folder).join(name);
    std::fs::write(&file, format!("{}\n", text.trim_end())).with_context(|| file.display().to_string())
}

/// Replaces the section `title` of a page, or adds it at its end; the others stay as they are. A page that is not there begins with
/// `head`.
pub(crate) fn put(page: &str, head: &str, title: &str, body: &str) -> Result<()> {
    let text = match std::fs::read_to_string(page) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => head.to_owned(),
        Err(error) => return Err(error).context(page.to_owned()),
    };
    std::fs::write(page, replaced(&text, title, body)).context(page.to_owned())
}

fn replaced(page: &str, title: &str, body: &str) -> String {
    let head = format!("\n## {title}\n");
    let (before, after) = match page.split_once(&head) {
        Some((before, rest)) => (before, rest.find("\n## ").map_or("", |at| &rest[at..])),
        None => (page.trim_end_matches('\n'), ""),
    };
    let before = before.trim_end_matches('\n');
    format!("{before}\n{head}\n{}\n{after}", body.trim())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_section_is_replaced_where_it_stands_and_added_where_it_is_not() {
        let page = "# Routing\n\n## Goals\n\nabc\n\n## Real daemons\n\nold\n\n## Soak\n\nx\n";
        assert_eq!(
            replaced(page, "Real daemons", "new\n"),
            "# Routing\n\n## Goals\n\nabc\n\n## Real daemons\n\nnew\n\n## Soak\n\nx\n"
        );
        assert_eq!(replaced("# Routing\n", "Soak", "x"), "# Routing\n\n## Soak\n\nx\n");
        let twice = replaced(&replaced(page, "Soak", "y"), "Soak", "y");
        assert_eq!(twice, page.replace("\nx\n", "\ny\n"));
    }
}
