//! Endurance: Envoys and control planes that restart and crash while the mesh keeps changing, and the resources left at the end.

mod changing_mesh;
mod churn;
mod client;
mod expected_state;
mod faulty_link;
mod replicas;
mod sidecar;
