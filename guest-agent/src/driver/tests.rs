//! The choice between the image's driver and the bundled one, on directories that stand for both.

use std::os::unix::fs::symlink;

use super::*;

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    /// A bundled driver for Vulkan 1.3.305 and an empty image.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("image")).unwrap();
        fs::create_dir(folder.path().join("bundle")).unwrap();
        let case = Self { folder };
        case.write("bundle/krun_gpu_icd.json", "libvulkan_virtio.so", "1.3.305");
        case
    }

    fn write(&self, path: &str, library: &str, version: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!(
            "{{\"ICD\": {{\"api_version\": \"{version}\", \"library_path\": \"{library}\"}}}}"
        );
        fs::write(path, text).unwrap();
    }

    fn choose(&self, wanted: GpuDriver) -> Result<Option<Driver>, DriverError> {
        let folder = self.folder.path();
        Driver::choose(wanted, &folder.join("image"), &folder.join("bundle"))
    }
}

const IMAGES: &str = "image/usr/share/vulkan/icd.d/virtio_icd.x86_64.json";

#[test]
fn an_image_without_venus_gets_the_bundled_driver() {
    let case = Case::new();
    case.write(
        "image/usr/share/vulkan/icd.d/lvp_icd.x86_64.json",
        "libvulkan_lvp.so",
        "1.4.400",
    );
    let choice = case.choose(GpuDriver::Newest).unwrap();
    assert_eq!(choice, Some(Driver::Bundled));
    assert!(matches!(
        case.choose(GpuDriver::Image),
        Err(DriverError::NotInImage)
    ));
}

#[test]
fn the_images_driver_is_used_when_it_is_newer() {
    let case = Case::new();
    case.write(IMAGES, "libvulkan_virtio.so", "1.3.305");
    let same = case.choose(GpuDriver::Newest).unwrap();
    assert_eq!(same, Some(Driver::Bundled));
    case.write(IMAGES, "libvulkan_virtio.so", "1.4.2");
    let path = IMAGES.strip_prefix("image").unwrap().to_owned();
    let newer = case.choose(GpuDriver::Newest).unwrap();
    assert_eq!(newer, Some(Driver::Image(path)));
    let bundled = case.choose(GpuDriver::Bundled).unwrap();
    assert_eq!(bundled, Some(Driver::Bundled));
}

#[test]
fn a_manifest_whose_library_is_gone_does_not_count() {
    let case = Case::new();
    case.write(IMAGES, "/usr/lib/libvulkan_virtio.so", "1.4.2");
    let missing = case.choose(GpuDriver::Newest).unwrap();
    assert_eq!(missing, Some(Driver::Bundled));
    let image = case.folder.path().join("image");
    fs::create_dir_all(image.join("lib64")).unwrap();
    symlink("/lib64", image.join("usr/lib")).unwrap();
    fs::write(image.join("lib64/libvulkan_virtio.so"), "").unwrap();
    let choice = case.choose(GpuDriver::Image).unwrap();
    assert!(matches!(choice, Some(Driver::Image(_))), "{choice:?}");
}

#[test]
fn without_the_bundle_the_choice_fails() {
    let case = Case::new();
    fs::remove_file(case.folder.path().join("bundle").join(MANIFEST)).unwrap();
    for wanted in [GpuDriver::Newest, GpuDriver::Bundled] {
        assert!(matches!(
            case.choose(wanted),
            Err(DriverError::Bundle { .. })
        ));
    }
    assert_eq!(case.choose(GpuDriver::None).unwrap(), None);
}

#[test]
fn the_loaders_variables_of_the_user_stay() {
    let mut environment = vec!["PATH=/bin".to_owned()];
    Driver::Bundled.announce(&mut environment);
    let manifest = "/dev/krun-gpu/vulkan/krun_gpu_icd.json";
    assert_eq!(
        environment[1..],
        [
            format!("VK_DRIVER_FILES={manifest}"),
            format!("VK_ICD_FILENAMES={manifest}")
        ]
    );
    for own in ["VK_DRIVER_FILES=", "VK_ICD_FILENAMES=/opt/icd.json"] {
        let mut environment = vec![own.to_owned()];
        Driver::Image("/x".into()).announce(&mut environment);
        assert_eq!(environment, [own]);
    }
}
