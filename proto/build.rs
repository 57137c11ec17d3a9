//! Compiles the `.proto` files into Rust. `protox` is used so that protoc need not be installed.

use std::{env, error::Error, fs, path::PathBuf};

use tonic_prost_build::configure;

/// Messages that carry a secret. Their `Debug` is written by hand and omits the secret.
const SECRET_MESSAGES: [&str; 9] = [
    "leadsmith.v1.UpdateLeadRequest",
    "leadsmith.v1.ConvertLeadRequest",
    "leadsmith.v1.EraseLeadRequest",
    "leadsmith.v1.SignInRequest",
    "leadsmith.v1.SignInResponse",
    "leadsmith.v1.ChangePasswordRequest",
    "leadsmith.v1.CreateOperatorRequest",
    "leadsmith.v1.ResetPasswordRequest",
    "leadsmith.v1.CreateKeyResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    // tonic-prost-build's own `emit_rerun_if_changed` has no effect for precompiled descriptors.
    println!("cargo:rerun-if-changed=leadsmith/v1");
    let mut files: Vec<PathBuf> = fs::read_dir("leadsmith/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();

    // With comments, so that reflection also serves the manual (grpcurl describe shows it).
    let descriptors = protox::Compiler::new(["."])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?
        .encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leadsmith.binpb"), &descriptors)?;

    // Ordered maps, so that equal responses have equal bytes.
    let mut builder = configure().btree_map(".").build_transport(false);
    for message in SECRET_MESSAGES {
        builder = builder.skip_debug([message]);
    }
    let set = prost::Message::decode(descriptors.as_slice())?;
    builder.compile_fds(set)?;
    Ok(())
}
