//! What changes about a workload, as it is told.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::health::Health as HealthReport;
use plexus_shared::model::health::Health;

use super::Mesh;
use super::link::reported;
use crate::events::{Event, MeshChange};

impl Mesh {
    /// Every workload by its address, with how it is.
    pub fn healths(&self) -> Vec<(String, Health)> {
        self.read(|roster| {
            let each = roster.workloads.iter();
            each.map(|(name, workload)| {
                (self.mount_point(name).to_string(), workload.route.health().shown(None))
            })
            .collect()
        })
    }

    /// Takes a workload's word on its health.
    pub(super) fn health(&self, name: &WorkloadName, report: &HealthReport) {
        let health = reported(report, self.now());
        let moved = self.read(|roster| {
            let route = &roster.workloads.get(name)?.route;
            let before = route.health().shown(None).status;
            route.report(health);
            Some(route.health().shown(None)).filter(|now| now.status != before)
        });
        if let Some(Health { status, detail, .. }) = moved {
            let source = self.mount_point(name).to_string();
            self.core.events.tell_owner(Event::HealthChanged { source, status, detail });
        }
    }

    /// Tells what happened to a workload: the owner, and when it came or went, the agents that see
    /// any of its capabilities.
    pub(super) fn tell(&self, name: &WorkloadName, change: MeshChange) {
        let (events, workload) = (&self.core.events, name.to_string());
        events.tell_owner(Event::MeshChanged { workload, change });
        let available = match change {
            MeshChange::Connected => true,
            MeshChange::Disconnected => false,
            MeshChange::Invited | MeshChange::Joined | MeshChange::Mounted => return,
        };
        let source = self.mount_point(name).to_string();
        let reason = (!available).then(|| "the workload is not connected".to_owned());
        events.source_status(&source, &format!("{source}/"), available, reason);
    }
}
