//! Requests of a client of states of the world, as the wire may bring them.

#![no_main]

mod life;

use libfuzzer_sys::fuzz_target;
use pilot_xds::Codec;
use pilot_proto::envoy::service::discovery::v3::DiscoveryRequest;

fuzz_target!(|data: &[u8]| {
    life::live(Codec::Sotw, data, |stream, mark, request: &mut DiscoveryRequest| {
        mark.put(&mut request.type_url, &mut request.response_nonce);
        stream.on_sotw_request(request)
    });
});
