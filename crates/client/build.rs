//! Compiles the client stubs of the services; the messages are those of muster-proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto/proto";
    println!("cargo:rerun-if-changed={protos}");
    let descriptors = protox::compile(["muster/v1/api.proto"].map(|file| format!("{protos}/{file}")), [protos])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .extern_path(".muster.v1", "::muster_proto::v1")
        .compile_fds(descriptors)?;
    Ok(())
}
