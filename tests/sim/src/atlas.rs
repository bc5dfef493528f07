//! Maps of real networks, read from files.
//!
//! ```text
//! a|b|rel            relations of autonomous systems as CAIDA gives them out; what rel says is not used
//! a b [ms]           a list of links, with a latency if one is known
//! { "nodes": …, "links": [{ "source": a, "target": b, "latency_ms": ms }] }     as graph libraries write JSON
//! { "a": { "peers": ["b", …] }, … }                                             as crawlers of Yggdrasil do, alone or below "topology" or "yggnodes"
//! ```
//!
//! Lines that begin with `#` are comments. Names are any words. Links are the same in both directions, and each counts once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use byway_sim::{Dice, Terrain, Topology, parts};
use serde::Deserialize;

/// A map.
#[derive(Clone, Debug, Default)]
pub struct Atlas {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
    links: BTreeMap<(usize, usize), Option<Duration>>,
}

/// The forms of JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Links { links: Vec<JsonLink> },
    Topology { topology: BTreeMap<String, JsonNode> },
    Yggnodes { yggnodes: BTreeMap<String, JsonNode> },
    Nodes(BTreeMap<String, JsonNode>),
}

#[derive(Deserialize)]
struct JsonLink {
    source: JsonName,
    target: JsonName,
    latency_ms: Option<f64>,
}

#[derive(Deserialize)]
struct JsonNode {
    peers: Vec<JsonName>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum JsonName {
    Text(String),
    Number(u64),
}

impl JsonName {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Atlas {
    /// Reads a map in any of the forms above.
    ///
    /// # Errors
    ///
    /// When it has none of these forms, or no link.
    pub fn read(text: &str) -> Result<Self> {
        let mut atlas = Self::default();
        if text.trim_start().starts_with('{') {
            atlas.read_json(text)?;
        } else {
            for (number, line) in text.lines().enumerate() {
                atlas.read_line(line.trim()).with_context(|| format!("line {}", number + 1))?;
            }
        }
        if atlas.links.is_empty() {
            bail!("there is no link in this map");
        }
        Ok(atlas)
    }

    fn read_json(&mut self, text: &str) -> Result<()> {
        let json = serde_json::from_str(text).context("this JSON is not a map of links or peers")?;
        let nodes = match json {
            Json::Links { links } => {
                for JsonLink { source, target, latency_ms } in links {
                    self.link(&source.text(), &target.text(), latency_ms.map(millis).transpose()?);
                }
                return Ok(());
            }
            Json::Topology { topology } => topology,
            Json::Yggnodes { yggnodes } => yggnodes,
            Json::Nodes(nodes) => nodes,
        };
        for (name, node) in nodes {
            for peer in node.peers {
                self.link(&name, &peer.text(), None);
            }
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str) -> Result<()> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.contains('|') {
            let mut words = line.split('|');
            let (Some(a), Some(b)) = (words.next(), words.next()) else { bail!("two names are wanted") };
            self.link(a.trim(), b.trim(), None);
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (a, b, latency) = match words[..] {
            [a, b] => (a, b, None),
            [a, b, ms] => (a, b, Some(millis(ms.parse().context("the latency is no number")?)?)),
            _ => bail!("two names and perhaps a latency are wanted"),
        };
        self.link(a, b, latency);
        Ok(())
    }

    fn link(&mut self, a: &str, b: &str, latency: Option<Duration>) {
        let (a, b) = (self.number(a), self.number(b));
        if a != b {
            let known = self.links.entry((a.min(b), a.max(b))).or_default();
            *known = known.or(latency);
        }
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.names.len()
    }

    /// How many links there are.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// The network as far as `most` nodes go: those nearest to the one with the most links. Latencies that the map does not
    /// name are log-normal.
    pub fn terrain(&self, most: usize, dice: &mut Dice) -> Terrain {
        let mut neighbours = vec![Vec::new(); self.nodes()];
        for (a, b) in self.links.keys() {
            neighbours[*a].push(*b);
            neighbours[*b].push(*a);
        }
        let part = parts(self.nodes(), self.links.keys().copied());
        let mut sizes = vec![0; self.nodes()];
        for part in &part {
            sizes[*part] += 1;
        }
        let best = |node: &usize| (sizes[part[*node]], neighbours[*node].len());
        let mut numbers = HashMap::new();
        let mut open: VecDeque<usize> = (0..self.nodes()).max_by_key(best).into_iter().collect();
        while let Some(node) = open.pop_front().filter(|_| numbers.len() < most) {
            let next = numbers.len();
            if let std::collections::hash_map::Entry::Vacant(entry) = numbers.entry(node) {
                entry.insert(next);
                open.extend(neighbours[node].iter().filter(|other| !numbers.contains_key(other)));
            }
        }
        let inside = |(a, b): &(usize, usize)| Some((*numbers.get(a)?, *numbers.get(b)?));
        let kept: Vec<((usize, usize), Option<Duration>)> = self
            .links
            .iter()
            .filter_map(|(link, latency)| inside(link).map(|(a, b)| ((a.min(b), a.max(b)), *latency)))
            .collect();
        let topology = Topology { nodes: numbers.len(), links: kept.iter().map(|(link, _)| *link).collect() };
        let mut terrain = Terrain::log_normal(topology, dice);
        for (wire, (_, latency)) in terrain.wires.iter_mut().zip(&kept) {
            wire.latency = latency.unwrap_or(wire.latency);
        }
        terrain
    }
}

fn millis(value: f64) -> Result<Duration> {
    if !(0.0..=60_000.0).contains(&value) {
        bail!("a latency of {value} ms is none");
    }
    // Nothing is nearer than that.
    Ok(Duration::from_secs_f64(value / 1_000.0).max(Duration::from_micros(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> (usize, usize) {
        let atlas = Atlas::read(text).unwrap();
        (atlas.nodes(), atlas.links())
    }

    #[test]
    fn all_forms_of_one_triangle_with_a_tail_are_the_same() {
        let caida = "# inferred\n1|2|-1\n2|3|0|bgp\n3|1|-1\n1|2|0\n3|4|-1\n";
        let list = "# a b ms\n1 2\n2 3 7.5\n3 1\n\n4 3 1000\n4 4\n";
        let links = r#"{"directed": false, "nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}, {"source": "2", "target": 3},
            {"source": 3, "target": 1, "latency_ms": 3.0}, {"source": 3, "target": 4, "weight": 9}]}"#;
        let peers =
            r#"{"1": {"peers": ["2", "3"], "name": "x"}, "2": {"peers": ["1", "3"]}, "3": {"peers": ["4"]}}"#;
        let below = format!(r#"{{"meta": 1, "topology": {peers}}}"#);
        let ygg = format!(r#"{{"yggnodes": {peers}}}"#);
        for text in [caida, list, links, peers, &below, &ygg] {
            assert_eq!(shape(text), (4, 4), "{text}");
        }
    }

    #[test]
    fn what_is_no_map_is_refused_with_the_line() {
        for text in [
            "",
            "# nothing\n",
            "1|2|0\nx",
            "1 2 3 4",
            "1 2 far",
            "1 2 -5",
            "1 2 1e9",
            "{}",
            r#"{"links": 3}"#,
        ] {
            assert!(Atlas::read(text).is_err(), "{text:?}");
        }
        let error = format!("{:#}", Atlas::read("1 2\n1 2 far").unwrap_err());
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn a_terrain_is_the_largest_part_or_what_is_near_its_busiest_node() {
        let atlas = Atlas::read("a b 5\nb c\nb d\nd e\nlost alone\n").unwrap();
        let all = atlas.terrain(100, &mut Dice::new(1));
        assert_eq!((all.topology.nodes, all.topology.links.len()), (5, 4));
        assert!(all.wires.iter().any(|wire| wire.latency == Duration::from_millis(5)));
        assert!(all.wires.iter().filter(|wire| wire.latency == Duration::from_millis(5)).count() == 1);
        let near = atlas.terrain(4, &mut Dice::new(1));
        assert_eq!((near.topology.nodes, near.topology.links.len()), (4, 3));
        let part = parts(4, near.topology.links.iter().copied());
        assert!(part.iter().all(|part| *part == 0));
    }
}
