"""Numbers that tell about a model on images without labels; of the same images, higher is meant to be better.

All of them read class probabilities of pixels, [N, K], each row summing to 1. None is right for every model:
``docs/knowing_without_labels.md`` measures how well each agrees with the true scores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def entropies(probabilities: Tensor) -> Tensor:
    """Compute the entropy of each row in nats, ``-sum_k p_k log p_k``; 0 log 0 is 0.

    Args:
        probabilities: [..., K] in [0, 1].

    Returns:
        [...] in [0, log K].

    Example:
        >>> entropies(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        tensor([0.6931, 0.0000])
    """
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(-1)


def information(probabilities: Tensor) -> float:
    """Compute the mutual information of pixel and predicted class, ``H(mean p) - mean H(p)``, in nats.

    High where every pixel is sure and all classes are used. Bridle, Heading, MacKay: *Unsupervised Classifiers, Mutual
    Information and 'Phantom Targets'*, NeurIPS 1991; a validator of adapted models in Musgrave, Belongie, Lim: *Three
    New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation*, 2022.

    Args:
        probabilities: [N, K].

    Returns:
        A number in [0, log K].

    Example:
        >>> round(information(torch.eye(2)), 4), information(torch.full((4, 2), 0.5))
        (0.6931, 0.0)
    """
    return float(entropies(probabilities.mean(0)) - entropies(probabilities).mean())


def neighbourhood_density(probabilities: Tensor, temperature: float = 0.05) -> float:
    """Compute the soft neighbourhood density: how many near neighbours a pixel has, as a mean entropy in nats.

    ``S_ij = cos(p_i, p_j)`` of different pixels, ``P = softmax(S / tau)`` of each row, and the mean entropy of the
    rows. Saito et al.: *Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
    Density*, ICCV 2021; they take the softmax outputs too, and tau = 0.05.

    Args:
        probabilities: [N, K], N at least 2; memory grows with N squared, so a sample of some thousand pixels.
        temperature: tau, above 0.

    Returns:
        A number in [0, log(N - 1)].

    Example:
        >>> round(neighbourhood_density(torch.tensor([[1.0, 0.0]] * 5)), 4)  # log 4: the four others are equally near
        1.3863
    """
    unit = F.normalize(probabilities, dim=1)
    similarity = unit @ unit.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    return float(entropies(similarity.softmax(1)).mean())


def dispersity(probabilities: Tensor) -> float:
    """Compute the nuclear norm of the predictions, divided by its largest value ``sqrt(N min(N, K))``.

    High where pixels are sure and classes are used equally. Deng, Suh, Gould, Zheng: *Confidence and Dispersity
    Speak: Characterizing Prediction Matrix for Unsupervised Accuracy Estimation*, ICML 2023.

    Args:
        probabilities: [N, K].

    Returns:
        A number in (0, 1].

    Example:
        >>> round(dispersity(torch.eye(3)), 4), round(dispersity(torch.tensor([[1.0, 0.0]] * 2)), 4)
        (1.0, 0.7071)
    """
    pixels, classes = probabilities.shape
    squared = torch.linalg.eigvalsh(probabilities.double().T @ probabilities.double())
    return float(squared.clamp(min=0).sqrt().sum() / (pixels * min(pixels, classes)) ** 0.5)


def share_divergence(shares: Tensor, wanted: Tensor) -> float:
    """Compute how far class shares are from others, ``sum_k w_k log(w_k / s_k)`` in nats (Kullback and Leibler, 1951).

    A class without any share counts as one with a share of 1e-6, so that a vanished class is far and not infinitely so.

    Args:
        shares: s [K], not negative, of any sum above 0.
        wanted: w [K], likewise.

    Returns:
        A number from 0, of equal shares, up.

    Example:
        >>> share_divergence(torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0]))
        0.0
    """
    s, w = ((x.double() / x.sum()).clamp(min=1e-6) for x in (shares, wanted))
    s, w = s / s.sum(), w / w.sum()
    return max(0.0, float((w * (w / s).log()).sum()))


def classes_kept(shares: Tensor, before: Tensor, least: float = 0.001, vanished: float = 0.1) -> float:
    """Compute the part of the classes with a share before that did not vanish: collapse of self-training.

    Args:
        shares: [K] class shares of a model's predictions, summing to 1.
        before: [K] those of the model that it was adapted from.
        least: share from which on a class counts as one that was predicted before.
        vanished: part of its share below which a class has vanished.

    Returns:
        A number in [0, 1]; 1 where no class had a share before.

    Example:
        >>> classes_kept(torch.tensor([0.99, 0.01]), torch.tensor([0.5, 0.5]))
        0.5
    """
    known = before >= least
    return float((shares[known] >= vanished * before[known]).double().mean()) if bool(known.any()) else 1.0
