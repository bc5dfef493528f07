//! What a command prints: data on one writer, everything else on another.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// The two writers of a command, and how the user wants its data.
pub(crate) struct Out<'w> {
    data: &'w mut dyn Write,
    notes: &'w mut dyn Write,
    /// Data as JSON.
    pub(crate) json: bool,
    /// Colour for people.
    pub(crate) color: bool,
    /// No notes.
    pub(crate) quiet: bool,
}

/// Colours, used sparingly: a meaning never rests on colour alone.
#[derive(Clone, Copy)]
pub(crate) enum Paint {
    /// Look at this.
    Odd,
    /// Headings.
    Head,
}

impl<'w> Out<'w> {
    /// Plain text to `data`, notes to `notes`.
    pub(crate) fn new(data: &'w mut dyn Write, notes: &'w mut dyn Write) -> Self {
        Self { data, notes, json: false, color: false, quiet: false }
    }

    /// One line of data, out at once.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.data, "{line}")?;
        Ok(self.data.flush()?)
    }

    /// One JSON object in a line of its own.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object).map_err(|error| Failure::could_not(error.to_string()))?;
        self.line(text)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.data.write_all(bytes)?;
        Ok(self.data.flush()?)
    }

    /// Something that is not data, for people. Nothing depends on its arrival.
    pub(crate) fn note(&mut self, note: impl Display) {
        if !self.quiet {
            let _ = writeln!(self.notes, "{note}");
        }
    }

    /// `text` in a colour, if colours are wanted.
    pub(crate) fn paint(&self, paint: Paint, text: impl Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match paint {
            Paint::Odd => "33",
            Paint::Head => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Lines with a heading, in columns as wide as their widest cell.
    pub(crate) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        let join = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = join(&mut heads.iter().copied());
        let head = self.paint(Paint::Head, head);
        writeln!(self.data, "{head}")?;
        for row in rows {
            writeln!(self.data, "{}", join(&mut row.iter().map(String::as_str)))?;
        }
        Ok(self.data.flush()?)
    }

    /// Clears a terminal before data is shown anew.
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        if self.color { self.bytes(b"\x1b[H\x1b[2J") } else { Ok(()) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Pipe
        } else {
            Self::could_not(error.to_string())
        }
    }
}

/// Bytes for people: 1.5 kB.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Seconds for people: 1h 02m.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Milliseconds for people, or a dash.
pub(crate) fn millis(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.1} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut out = Out::new(&mut data, &mut notes);
        out.table(&["A", "LONG"], &[vec!["wide".into(), "x".into()]]).expect("a vector takes everything");
        assert_eq!(String::from_utf8_lossy(&data), "A     LONG\nwide  x\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((size(999), size(1_500)), ("999 B".into(), "1.5 kB".into()));
        assert_eq!((span(59), span(3_725), span(90_000)), ("59s".into(), "1h 02m".into(), "1d 01h".into()));
    }
}
