//! The spawner through real processes: this one plays the keeper.

mod ending;
mod finding;
mod inspecting;
mod keeper;
mod starting;
mod worker;
