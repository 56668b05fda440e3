//! Envoy's whole life under the agent, with the real Envoy, in both engines where there are two.

mod hot_restart;

use pilot_tests::solo::Engine;

/// Both engines of a hot restart.
const ENGINES: [Engine; 2] = [Engine::Mediated, Engine::Native];
