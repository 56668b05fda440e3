//! Envoy's whole life under the agent, with the real Envoy, in both engines where there are two.

mod companion;
mod configuration;
mod crash;
mod hazards;
mod hot_restart;
mod isolation;
mod mesh;
mod pid_one;
mod shutdown;
mod storm;

use pilot_tests::solo::Engine;

/// Both engines of a hot restart.
const ENGINES: [Engine; 2] = [Engine::Mediated, Engine::Native];
