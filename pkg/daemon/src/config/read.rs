//! Reads values out of parsed TOML; what does not fit goes to the [`Log`] and the default stays.

use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Log, suggest};

/// A table whose keys are taken one by one; those never asked for are unknown, and so faults.
pub(crate) struct Section<'r, 't> {
    log: &'r Log<'t>,
    path: String,
    table: Option<&'r DeTable<'t>>,
    known: Vec<&'static str>,
}

/// A value with its place in the text.
pub(crate) struct Value<'r, 't> {
    log: &'r Log<'t>,
    path: String,
    at: usize,
    value: &'r DeValue<'t>,
}

impl<'r, 't> Section<'r, 't> {
    pub(crate) fn root(log: &'r Log<'t>, table: &'r DeTable<'t>) -> Self {
        Self { log, path: String::new(), table: Some(table), known: Vec::new() }
    }

    /// The value of `key`, if it was written.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value<'r, 't>> {
        self.known.push(key);
        let (key, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Value {
            log: self.log,
            path: self.join(key.get_ref()),
            at: start(value),
            value: value.get_ref(),
        })
    }

    /// The table `key`; an empty one if it was not written.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        let path = self.join(key);
        let table = self.value(key).and_then(|value| {
            if let DeValue::Table(table) = value.value {
                return Some(table);
            }
            value.wrong_type("a table");
            None
        });
        Section { log: self.log, path, table, known: Vec::new() }
    }

    /// The tables of the array `key`.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(array) = value.value else {
            value.wrong_type(&format!("a list of tables, each headed by [[{}]]", value.path));
            return Vec::new();
        };
        let table = |(index, item): (usize, &'r Spanned<DeValue<'t>>)| {
            let item = value.item(index, item);
            if let DeValue::Table(table) = item.value {
                return Some(Section {
                    log: self.log,
                    path: item.path,
                    table: Some(table),
                    known: Vec::new(),
                });
            }
            item.wrong_type("a table");
            None
        };
        array.iter().enumerate().filter_map(table).collect()
    }

    /// A text that `parse` understands, else `default`.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Value<'r, 't>, &str) -> Option<T>,
    ) -> T {
        self.value(key).and_then(|value| parse(&value, value.text()?)).unwrap_or(default)
    }

    /// A text that [`FromStr`] understands, else `default`.
    pub(crate) fn read<T: FromStr<Err: Display>>(&mut self, key: &'static str, default: T) -> T {
        self.parsed(key, default, Value::read)
    }

    /// Every text of a list that `parse` understands, else `default`.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        mut parse: impl FnMut(&Value<'r, 't>, &str) -> Option<T>,
    ) -> Vec<T> {
        let Some(items) = self.value(key).and_then(|value| value.items()) else { return default };
        items.iter().filter_map(|item| parse(item, item.text()?)).collect()
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else { return default };
        if let DeValue::Boolean(flag) = value.value {
            return *flag;
        }
        value.wrong_type("true or false");
        default
    }

    /// A whole number that `T` can hold.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, key: &'static str, default: T) -> T {
        let Some(value) = self.value(key) else { return default };
        let DeValue::Integer(integer) = value.value else {
            value.wrong_type("a whole number");
            return default;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number.and_then(|number| T::try_from(number).ok()).unwrap_or_else(|| {
            value.fault(format!("{} is out of range", integer.as_str()), None);
            default
        })
    }

    /// Notes a fault at `key`, or at the head of this section if it was not written.
    pub(crate) fn fault_at(&mut self, key: &'static str, what: impl Into<String>, help: Option<String>) {
        match self.value(key) {
            Some(value) => value.fault(what, help),
            None => self.fault(what, help),
        }
    }

    /// Notes a fault at the head of this section.
    pub(crate) fn fault(&self, what: impl Into<String>, help: Option<String>) {
        let at = self.table.and_then(|table| table.keys().map(|key| key.span().start).min()).unwrap_or(0);
        self.log.add(at, &self.path, what, help);
    }

    /// Every key that was not asked for is a fault.
    pub(crate) fn finish(self) {
        for key in self.table.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let path = self.join(name);
                self.log.add(key.span().start, &path, "no such key", suggest(name, &self.known));
            }
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'r, 't> Value<'r, 't> {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&'r str> {
        if let DeValue::String(text) = self.value {
            return Some(text);
        }
        self.wrong_type("a text in quotes");
        None
    }

    /// What [`FromStr`] makes of `text`, whose error goes to the log.
    pub(crate) fn read<T: FromStr<Err: Display>>(&self, text: &str) -> Option<T> {
        text.parse().map_err(|error: T::Err| self.fault(error.to_string(), None)).ok()
    }

    /// Which of `choices` the text is.
    pub(crate) fn choice<T: Copy>(&self, text: &str, choices: &[(&str, T)]) -> Option<T> {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        self.fault(format!("{text:?} is not known here"), suggest(text, &names));
        None
    }

    /// Notes a fault here.
    pub(crate) fn fault(&self, what: impl Into<String>, help: Option<String>) {
        self.log.add(self.at, &self.path, what, help);
    }

    /// Notes that this asks for something that this version does not have; it must not pass as if it were done.
    pub(crate) fn not_built(&self, what: &str, instead: &str) {
        self.fault(format!("{what} is not built into this version yet"), Some(format!("write {instead}")));
    }

    fn items(&self) -> Option<Vec<Value<'r, 't>>> {
        if let DeValue::Array(array) = self.value {
            return Some(array.iter().enumerate().map(|(index, item)| self.item(index, item)).collect());
        }
        self.wrong_type("a list in square brackets");
        None
    }

    fn item(&self, index: usize, item: &'r Spanned<DeValue<'t>>) -> Value<'r, 't> {
        Value {
            log: self.log,
            path: format!("{}[{index}]", self.path),
            at: start(item),
            value: item.get_ref(),
        }
    }

    fn wrong_type(&self, wanted: &str) {
        self.fault(format!("this is {}, not {wanted}", kind(self.value)), None);
    }
}

/// Where a value starts. The span of a table in an array is that of its header.
fn start(value: &Spanned<DeValue<'_>>) -> usize {
    value.span().start
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
