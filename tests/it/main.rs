//! The behaviour of the whole, on real parts: a real broker, a real Redis, a real API server and real
//! pods. `make test` starts them; without them every test here fails and says so.
//!
//! Each test has a virtual host, a namespace and a tenant of its own, so they run side by side. Those
//! that take a part away have it for themselves (see [`support::World`]).

mod support;

mod addresses;
mod admission;
mod agreement;
mod annotations;
mod answer_at_pod;
mod api_faults;
mod asking;
mod broker_cluster;
mod broker_faults;
mod cache_commands;
mod cache_control;
mod cache_hot;
mod cache_table;
mod cache_values;
mod cancel;
mod checked;
mod checker;
mod cluster_faults;
mod collisions;
mod command_line;
#[cfg(feature = "crash-points")]
mod crash_matrix;
mod crashes;
mod crowd;
#[cfg(feature = "crash-points")]
mod decided;
mod early;
mod failures;
mod fan_in;
mod follow_commands;
mod hostile;
mod identity;
mod lanes;
mod late_writes;
mod link_faults;
mod main_job;
mod manifests;
mod member_faults;
mod namespaces;
mod nemesis;
mod operations;
mod outages;
mod overdue;
mod pages;
mod poison;
mod policy;
mod process_faults;
#[cfg(feature = "crash-points")]
mod recorded_verdicts;
mod redis_connection;
mod redis_faults;
mod rejections;
mod release_order;
mod reload;
mod rendering;
mod replicas;
mod replies;
mod results;
mod seed_job;
mod set_aside;
mod shipped;
mod silent_queue;
mod together;
mod unread_logs;
mod upgrade;
mod whereabouts;
