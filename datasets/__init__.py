"""Data sets: five small ones that are installed with the package, and Keras's, by download."""

from hornbeam.datasets import breast_cancer as breast_cancer
from hornbeam.datasets import diabetes as diabetes
from hornbeam.datasets import digits as digits
from hornbeam.datasets import iris as iris
from hornbeam.datasets import wine as wine
