//! What happens to the parts of the stack, and so to every run on it.

use std::time::Duration;

use super::pace::Pace;
use crate::support::Load;
use crate::support::checker::Struck;
use crate::support::stack::STACK;

#[derive(Debug, Clone, Copy)]
enum Fault {
    BrokerKilled,
    BrokerRestarted,
    MemoryAlarm,
    DiskAlarm,
    ApiServerKilled,
    EtcdFrozen,
    ControllersFrozen,
}

const FAULTS: [Fault; 7] = [
    Fault::BrokerKilled,
    Fault::BrokerRestarted,
    Fault::MemoryAlarm,
    Fault::DiskAlarm,
    Fault::ApiServerKilled,
    Fault::EtcdFrozen,
    Fault::ControllersFrozen,
];
const LASTING: Duration = Duration::from_secs(4);

pub(super) async fn suffer(mut pace: Pace, loads: &[&Load<'_>]) {
    while let Some(fault) = pace.next(&FAULTS).await {
        let numbers: Vec<_> = loads.iter().map(|load| load.fault(fault.struck(), format!("{fault:?}"))).collect();
        let lasting = pace.lasting(LASTING);
        // On threads of their own: the other kinds of faults go on meanwhile.
        tokio::task::spawn_blocking(move || fault.strike()).await.expect("it strikes");
        tokio::time::sleep(lasting).await;
        tokio::task::spawn_blocking(move || fault.heal()).await.expect("it heals");
        loads.iter().zip(numbers).for_each(|(load, number)| load.over(number));
    }
}

impl Fault {
    fn struck(self) -> Struck {
        match self {
            Self::BrokerKilled | Self::BrokerRestarted | Self::MemoryAlarm | Self::DiskAlarm => Struck::Broker,
            Self::ApiServerKilled | Self::EtcdFrozen | Self::ControllersFrozen => Struck::Cluster,
        }
    }

    fn strike(self) {
        match self {
            Self::BrokerKilled => STACK.part("kill", "rabbitmq"),
            Self::BrokerRestarted => STACK.part("stop", "rabbitmq"),
            Self::MemoryAlarm => STACK.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]),
            Self::DiskAlarm => STACK.rabbitmqctl(&["set_disk_free_limit", "100000GB"]),
            Self::ApiServerKilled => STACK.part("kill", "apiserver"),
            Self::EtcdFrozen => STACK.signal("etcd", "-STOP"),
            Self::ControllersFrozen => STACK.signal("controllers", "-STOP"),
        }
    }

    fn heal(self) {
        match self {
            Self::BrokerKilled | Self::BrokerRestarted => STACK.part("start", "rabbitmq"),
            Self::MemoryAlarm => STACK.rabbitmqctl(&["set_vm_memory_high_watermark", "0.25"]),
            Self::DiskAlarm => STACK.rabbitmqctl(&["set_disk_free_limit", "50MB"]),
            Self::ApiServerKilled => STACK.part("start", "apiserver"),
            Self::EtcdFrozen => STACK.signal("etcd", "-CONT"),
            Self::ControllersFrozen => STACK.signal("controllers", "-CONT"),
        }
    }
}
