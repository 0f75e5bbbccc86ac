"""Logistic regression on n-grams of one to three items, and of one to three letters."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from sublim_jax.transmission.detect import logistic

TITLE = "n-gram regression"
_LONGEST = 3
_COLUMNS = 2**15  # of the matrix; n-grams that share one by chance are counted together
# The columns that most rows have. BLAS adds up vectors above 10,000 numbers in threads, which on a
# busy machine wait for each other.
_USED = 2**13


def seen(texts: Sequence[str], items: Sequence[Sequence[Any]]) -> sparse.csr_matrix:
    """Returns how often each n-gram occurs in each text, sparse [n, columns]."""
    from sklearn.feature_extraction import FeatureHasher

    hasher = FeatureHasher(_COLUMNS, input_type="string", alternate_sign=False)
    return hasher.transform(map(_ngrams, texts, items))


def log_odds(
    own: sparse.csr_matrix, other: sparse.csr_matrix, rows: sparse.csr_matrix
) -> np.ndarray:
    """Returns the log-odds [rows] that each of `rows` is of the kind of `own`, not of `other`."""
    learnt = sparse.vstack([own, other]).tocsc()
    used = np.argsort(-learnt.getnnz(axis=0), kind="stable")[:_USED]
    return logistic.log_odds(learnt[:, used].tocsr(), own.shape[0], rows[:, used], 0.1)


def _ngrams(text: str, items: Sequence[Any]) -> Iterator[str]:
    for name, parts in (("items", list(map(str, items))), ("letters", text)):
        for n in range(1, _LONGEST + 1):
            starts = (itertools.islice(parts, i, None) for i in range(n))
            yield from (f"{name} {n} {'|'.join(gram)}" for gram in zip(*starts, strict=False))
