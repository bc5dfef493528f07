//! What is wrong with a configuration, where, and what to do about it.

use std::cell::RefCell;
use std::fmt;

/// One fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, with dots; empty where the text is not TOML.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead, if that is known.
    pub help: Option<String>,
}

/// All faults of one configuration file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file, as the user named it.
    pub file: String,
    /// Never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let end = if index + 1 == self.faults.len() { "" } else { "\n" };
            write!(f, "{}:{}:{}: {fault}{end}", self.file, fault.line, fault.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects faults while a text is read, so that the user sees all of them at once.
pub(crate) struct Log<'t> {
    text: &'t str,
    faults: RefCell<Vec<(usize, Fault)>>,
}

impl<'t> Log<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, faults: RefCell::default() }
    }

    /// Notes a fault at the byte `at`.
    pub(crate) fn add(&self, at: usize, key: &str, what: impl Into<String>, help: Option<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let fault = Fault { line, column, key: key.to_owned(), what: what.into(), help };
        self.faults.borrow_mut().push((at, fault));
    }

    /// The faults in the order of the text, if there are any.
    pub(crate) fn finish(self, file: &str) -> Result<(), Faults> {
        let mut faults = self.faults.into_inner();
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by_key(|(at, _)| *at);
        Err(Faults { file: file.to_owned(), faults: faults.into_iter().map(|(_, fault)| fault).collect() })
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …" where something is near, else the list of what there is.
pub(crate) fn suggest(word: &str, known: &[&str]) -> Option<String> {
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean {near:?}?")),
        None if known.is_empty() => None,
        None => {
            let list: Vec<_> = known.iter().map(|name| format!("{name:?}")).collect();
            Some(format!("there is {}", list.join(", ")))
        }
    }
}

/// Edits that lead from `one` to `two`: a character put in, left out, changed, or swapped with the next.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut rows = vec![(0..=two.len()).collect::<Vec<_>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=two.len() {
            let change = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_find_the_word_and_other_words_do_not() {
        let known = ["listen", "level", "name"];
        for slip in ["lisetn", "listn", "Listen", "listens", "kisten"] {
            assert_eq!(nearest(slip, known), Some("listen"), "{slip}");
        }
        assert_eq!(nearest("endpoint", known), None);
        assert_eq!(suggest("zebra", &known).as_deref(), Some(r#"there is "listen", "level", "name""#));
    }

    #[test]
    fn faults_come_in_the_order_of_the_text_with_lines_and_columns() {
        let log = Log::new("a = 1\nöb = 2\n");
        log.add(9, "b", "second", None);
        log.add(0, "a", "first", Some("do this".into()));
        let faults = log.finish("x.toml").expect_err("two faults");
        assert_eq!(faults.to_string(), "x.toml:1:1: a: first; do this\nx.toml:2:3: b: second");
    }
}
