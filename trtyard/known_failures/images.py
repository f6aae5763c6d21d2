"""Failures while an image is built: registries, apt, certificates."""

from trtyard.known_failures.entry import KnownFailure

IMAGES: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="base-image-gone",
        patterns=(
            r"failed to resolve source metadata for \S+: \S+: not found",
            r"failed to solve: \S+: \S+: not found",
            r"manifest for \S+ not found",
            r"\bmanifest unknown\b",
        ),
        cause="the registry does not have an image of that tag or digest. NVIDIA removes its CUDA "
        "images some months after their release reaches its end of life",
        hint="use another base: "
        "https://gitlab.com/nvidia/container-images/cuda/blob/master/doc/supported-tags.md lists "
        "the supported tags. If you have a copy, name its registry in mirrors.toml "
        "(docs/offline.md). For a row: change base.image and base.digest in versions.toml, then "
        "./run lock",
        sources=(
            "https://github.com/NVIDIA/nvidia-docker/issues/1768",
            "https://github.com/NVIDIA/TensorRT/issues/4142",
            "https://github.com/isl-org/MiDaS/issues/281",
            "measured: BuildKit of Docker 28.5.2, a registry on loopback",
        ),
    ),
    KnownFailure(
        name="apt-key-rotated",
        patterns=(r"NO_PUBKEY A4B469963BF863CC",),
        cause="NVIDIA changed the signing key of its apt sources in April 2022. Older base images "
        "have the old key, so apt ignores these sources or stops",
        hint="if you need nothing from NVIDIA's source, remove it before apt-get update (rm "
        "/etc/apt/sources.list.d/cuda.list /etc/apt/sources.list.d/nvidia-ml.list). Otherwise "
        "install the distribution's package cuda-keyring first, or use a newer base",
        sources=(
            "https://developer.nvidia.com/blog/updating-the-cuda-linux-gpg-repository-key/",
            "https://github.com/iot-salzburg/gpu-jupyter/issues/78",
            "https://github.com/BlueBrain/morphoclass/issues/63",
            "https://github.com/maum-ai/hififace/issues/19",
        ),
    ),
    KnownFailure(
        name="apt-version-gone",
        patterns=(
            r"\bE: Version '[^']+' for '[^']+' was not found",
            r"a locked version is in no apt source any more",
        ),
        cause="apt's sources do not have that version of the package. Distributions keep only the "
        "newest version, and NVIDIA's source differs by distribution and CUDA release",
        hint="apt-cache madison PACKAGE, in the base, lists the versions. For a row: ./run lock "
        "--upgrade ROW locks today's versions; ./run build --store DIR builds from files that "
        "./run fetch kept",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2257",
            "https://github.com/WisconsinAIVision/yolact_edge/issues/231",
            "measured: apt of Debian 12",
        ),
    ),
    KnownFailure(
        name="certificate-unknown",
        patterns=(
            r"x509: certificate signed by unknown authority",
            r"invalid peer certificate: (?:UnknownIssuer|.*CaUsedAsEndEntity)",
            r"CERTIFICATE_VERIFY_FAILED",
            r"server certificate verification failed",
        ),
        cause="a server or proxy, such as a company's, uses a certificate whose authority this "
        "machine or image does not know",
        hint="pass the company's bundle: SSL_CERT_FILE=FILE before ./run, or ca-bundle in "
        "mirrors.toml (docs/offline.md), which also applies to builds. Docker's own pulls use "
        "/etc/docker/certs.d and the system's bundle",
        sources=("measured: Python 3.11's ssl, uv 0.13 and git against a server on loopback",),
    ),
)
