//! Images from archive to plan to archive: what is saved is loaded again, and what lies is refused.

mod docker;
mod hostile;
mod layouts;
mod memory;
mod plans;
mod properties;
mod tar;
