//! The spawner through real processes: this one plays the keeper.

mod ending;
mod examining;
mod finding;
mod forking;
mod groups;
mod identity;
mod inspecting;
mod keeper;
mod limits;
mod loading;
mod looking;
mod starting;
mod swapping;
mod worker;
