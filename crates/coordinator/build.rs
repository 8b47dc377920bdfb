//! Compiles the stubs of the services, of both sides: nodes are each other's clients. The messages are those of muster-proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto/proto";
    println!("cargo:rerun-if-changed={protos}");
    let files = ["api", "worker"].map(|name| format!("{protos}/muster/v1/{name}.proto"));
    tonic_prost_build::configure()
        .build_transport(false)
        .extern_path(".muster.v1", "::muster_proto::v1")
        .compile_fds(protox::compile(files, [protos])?)?;
    Ok(())
}
