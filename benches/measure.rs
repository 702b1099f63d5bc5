//! What is read off a process or the machine, and what is made of many such readings.

pub(crate) mod apart;
pub(crate) mod machine;
pub(crate) mod quiet;
pub(crate) mod ratio;
pub(crate) mod rounds;
pub(crate) mod usage;
