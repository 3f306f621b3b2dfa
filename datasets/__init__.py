"""Data sets: five small ones that are installed with the package, and Keras's, by download."""

from hornbeam.datasets import boston_housing as boston_housing
from hornbeam.datasets import breast_cancer as breast_cancer
from hornbeam.datasets import california_housing as california_housing
from hornbeam.datasets import cifar10 as cifar10
from hornbeam.datasets import cifar100 as cifar100
from hornbeam.datasets import diabetes as diabetes
from hornbeam.datasets import digits as digits
from hornbeam.datasets import fashion_mnist as fashion_mnist
from hornbeam.datasets import imdb as imdb
from hornbeam.datasets import iris as iris
from hornbeam.datasets import mnist as mnist
from hornbeam.datasets import reuters as reuters
from hornbeam.datasets import wine as wine
