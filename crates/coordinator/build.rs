//! Compiles the stubs of the services, of both sides: nodes are each other's clients; and lists their methods. The
//! messages are those of muster-proto.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = "../proto/proto";
    println!("cargo:rerun-if-changed={protos}");
    let files = ["api", "worker"].map(|name| format!("{protos}/muster/v1/{name}.proto"));
    let compiled = protox::compile(files, [protos])?;
    let mut methods = Vec::new();
    for file in &compiled.file {
        for service in &file.service {
            let of = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| of(method.name())));
        }
    }
    let out = std::path::Path::new(&std::env::var("OUT_DIR")?).join("methods.rs");
    std::fs::write(out, format!("&{methods:?}"))?;
    tonic_prost_build::configure()
        .build_transport(false)
        .extern_path(".muster.v1", "::muster_proto::v1")
        .compile_fds(compiled)?;
    Ok(())
}
