//! Requests of an incremental client, as the wire may bring them.

#![no_main]

mod life;

use libfuzzer_sys::fuzz_target;
use pilot_xds::Codec;
use pilot_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

fuzz_target!(|data: &[u8]| {
    life::live(Codec::Delta, data, |stream, mark, request: &mut DeltaDiscoveryRequest| {
        mark.put(&mut request.type_url, &mut request.response_nonce);
        stream.on_delta_request(request)
    });
});
