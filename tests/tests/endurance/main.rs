//! What lasts: Envoys and control planes that come and go while the mesh never keeps still, and what is left when all have gone.

mod cable;
mod change;
mod churn;
mod client;
mod picture;
mod replicas;
mod sidecar;
