//! What lasts: Envoys and control planes that come and go while the mesh never keeps still, and what is left when all have gone.

mod change;
mod churn;
mod client;
mod expected_state;
mod faulty_link;
mod replicas;
mod sidecar;
