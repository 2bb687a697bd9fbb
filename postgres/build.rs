//! Without this, a migration that is added later would not be noticed by the build.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
