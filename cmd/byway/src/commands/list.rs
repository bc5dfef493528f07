//! What `nodes`, `peers`, `links`, `routes` and `sessions` have in common: a list is asked for and shown, a line for each
//! item, or as one JSON object.

use byway_api::{ApiError, Service};
use serde::Serialize;

use super::{Context, Watch};
use crate::failure::Failure;
use crate::out::Out;

/// A kind of listing.
pub(crate) struct List<T: 'static> {
    /// The list's name in JSON.
    pub(crate) name: &'static str,
    /// Said on stderr when there is nothing to list.
    pub(crate) none: &'static str,
    /// The columns, from left to right.
    pub(crate) columns: &'static [Column<T>],
}

/// The heading, and the cell of an item.
type Column<T> = (&'static str, fn(&T) -> String);

impl<T: Serialize> List<T> {
    /// Asks, and shows the answer, once or again and again.
    pub(crate) async fn run(
        &self,
        watch: Watch,
        context: &mut Context<'_, '_>,
        ask: impl AsyncFn(&dyn Service) -> Result<Vec<T>, ApiError>,
    ) -> Result<(), Failure> {
        watch
            .run(context, async |service, out| {
                let items = ask(service).await?;
                if out.json {
                    return out.object(&serde_json::Map::from_iter([self.json(&items)?]));
                }
                self.show(&items, out)
            })
            .await
    }

    /// The list as a member of a JSON object.
    pub(crate) fn json(&self, items: &[T]) -> Result<(String, serde_json::Value), Failure> {
        let list = serde_json::to_value(items).map_err(|error| Failure::could_not(error.to_string()))?;
        Ok((self.name.to_owned(), list))
    }

    /// A heading and a line for each item; with no item, a note instead.
    pub(crate) fn show(&self, items: &[T], out: &mut Out<'_>) -> Result<(), Failure> {
        if items.is_empty() {
            out.note(self.none);
            return Ok(());
        }
        let heads: Vec<_> = self.columns.iter().map(|(head, _)| *head).collect();
        let row = |item: &T| self.columns.iter().map(|(_, cell)| cell(item)).collect();
        out.table(&heads, &items.iter().map(row).collect::<Vec<_>>())
    }
}

/// A cell that may be empty.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::{links, nodes, peers, routes, sessions};
    use super::*;

    #[tokio::test]
    async fn every_listing_has_a_heading_and_a_line_for_each_and_the_json_holds_them_all() {
        let fake = Fake::new();
        macro_rules! listing {
            ($command:ident, $lines:expr) => {
                let args = $command::Args { watch: Watch { watch: false } };
                let text = fake.run(async |context| $command::run(&args, context).await).await.data();
                assert_eq!(text.lines().count(), $lines, "{text}");
                assert!(text.lines().next().is_some_and(|head| head == head.to_uppercase()), "{text}");
                let json = fake.json(async |context| $command::run(&args, context).await).await.data();
                let value: serde_json::Value = serde_json::from_str(&json).expect("one object");
                assert_eq!(value[stringify!($command)].as_array().map(Vec::len), Some(1), "{json}");
            };
        }
        listing!(links, 2);
        listing!(nodes, 2);
        listing!(peers, 2);
        listing!(sessions, 2);
        // A heading and a line for the tree, and an empty line between.
        listing!(routes, 5);
    }

    #[test]
    fn where_there_is_nothing_a_note_says_so() {
        let list: List<u8> = List { name: "x", none: "there is nothing", columns: &[("X", u8::to_string)] };
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        list.show(&[], &mut Out::new(&mut data, &mut notes)).expect("a vector takes everything");
        assert_eq!((&data[..], &notes[..]), (&b""[..], &b"there is nothing\n"[..]));
        assert_eq!(list.json(&[]).expect("numbers have a form"), ("x".to_owned(), serde_json::json!([])));
    }
}
