//! A world in one thread and virtual time.
//!
//! A [`World`] holds routers and the links between them. Links delay, lose, reorder and copy; they are cut and mended, and
//! nodes die and start again. [`Daemons`] is the same for whole daemons. All chance comes from one seed, so whatever goes wrong goes wrong again. The [`suite`] is
//! what every routing protocol must pass.
//!
//! ```
//! use std::time::Duration;
//!
//! use byway_beacon::Beacon;
//! use byway_network::{Class, Network, Plane};
//! use byway_sim::{Topology, Wire, World};
//!
//! let factory = |now, setup| Box::new(Beacon::new(now, setup)) as Box<dyn Network>;
//! let mut world = World::of(7, factory, &Topology::ring(10), Wire::clean(Class::UDP));
//! world.run_for(Duration::from_secs(1));
//! let flight = world.send(0, 5, Plane::Any)?;
//! world.run_for(Duration::from_secs(1));
//! assert!(world.flight(flight).arrived());
//! # Ok::<(), byway_network::Unroutable>(())
//! ```

mod churn;
mod daemons;
mod dice;
mod flight;
pub mod models;
mod queue;
mod shortest;
pub mod suite;
mod terrain;
mod threads;
mod topology;
mod wire;
mod world;

pub use churn::Churn;
pub use daemons::{Daemons, Received};
pub use dice::Dice;
pub use flight::Flight;
pub use shortest::{Graph, Shortest};
pub use terrain::{Kind, Terrain};
pub use threads::{ThreadCounters, checksum, overlay, packet};
pub use topology::{Topology, parts};
pub use wire::Wire;
pub use world::{Factory, Recorded, Tally, Timers, World};
