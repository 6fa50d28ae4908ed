"""The official files of the sets that can be downloaded: address, size, SHA-256."""

from pp_jax.data.sources import Remote

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_KMNIST = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"

_TRAIN_X, _TRAIN_Y = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
_TEST_X, _TEST_Y = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

MNIST = (
    Remote(_MNIST + _TRAIN_X, 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    Remote(_MNIST + _TRAIN_Y, 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    Remote(_MNIST + _TEST_X, 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    Remote(_MNIST + _TEST_Y, 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)

# Of the labelled images themselves (manifest.arrays_digest), whatever they were fetched as.
MNIST_DIGESTS = {
    "train": "b74236c7f4738026eecf04c60652e8424b3e9839cc1ef9de881b17895323a2ce",
    "test": "e15371d9abdc3efb9fc34f99c5e6ee8fe5f0218b2b747821631ac60e93d0023a",
}

FASHION_MNIST = (
    Remote(_FASHION + _TRAIN_X, 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    Remote(_FASHION + _TRAIN_Y, 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    Remote(_FASHION + _TEST_X, 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    Remote(_FASHION + _TEST_Y, 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)

KMNIST = (
    Remote(_KMNIST + _TRAIN_X, 18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
    Remote(_KMNIST + _TRAIN_Y, 29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
    Remote(_KMNIST + _TEST_X, 3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
    Remote(_KMNIST + _TEST_Y, 5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
)

EMNIST = Remote(
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    561_753_746,
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
)

CIFAR10 = Remote(
    _CIFAR + "cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
)

CIFAR100 = Remote(
    _CIFAR + "cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
)

SVHN = (
    Remote(_SVHN + "train_32x32.mat", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
    Remote(_SVHN + "test_32x32.mat", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
)

# No checksum of this archive is published by its authors; the counts are checked when it is read.
TINY_IMAGENET = Remote("http://cs231n.stanford.edu/tiny-imagenet-200.zip", 248_100_043, None)
