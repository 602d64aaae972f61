//! The spawner through real processes: this one plays the keeper.

mod ending;
mod inspecting;
mod keeper;
mod starting;
