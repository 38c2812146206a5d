"""Pieces of adaptation methods: pure tensor functions and small modules, usable alone in plain PyTorch.

No piece reads files or chooses devices. All of them are importable from here and load on first use::

    import torch
    from segadapt.pieces import cross_entropy, follow, frozen_copy

    teacher = frozen_copy(student)
    loss = cross_entropy(student(images), labels).mean()
    ...
    follow(teacher, student, momentum=0.99)

Losses return a :class:`Term`, a sum with its number of elements; :meth:`Term.mean` makes it a scalar.
The letters in shapes: B images, K classes, D channels of features, (H, W) pixels, (h, w) cells of a
network's output. Labels are train ids, and :data:`segadapt.labels.IGNORE` (255) marks pixels without
one. The examples of the docstrings assume ``import torch``, ``import numpy as np`` and ``from
segadapt.pieces import *``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segadapt.core.exports import on_demand

_TOPICS: dict[str, tuple[str, ...]] = {
    # losses
    "terms": ("Term",),
    "losses": (
        "cross_entropy",
        "cross_entropy_and_entropy",
        "divergence_from_uniform",
        "negative_log_likelihood",
        "soft_negative_log_likelihood",
    ),
    # pseudo labels
    "thresholds": ("ClassThresholds",),
    "pseudo_labels": ("confidence_and_prediction", "confident_labels", "select", "soft_labels"),
    "priors": ("apply_prior", "resize_prior", "spatial_prior"),
    "margins": ("Margins", "crop_margins", "image_margins"),
    "denoising": (
        "hard_labels",
        "rectified",
        "reverse_cross_entropy",
        "soft_reverse_cross_entropy",
        "symmetric_cross_entropy",
    ),
    "optimal_transport": (
        "class_balanced_sample",
        "class_masses",
        "class_shares",
        "equipartition",
        "greenkhorn",
        "sinkhorn",
        "sinkhorn_with_bank",
    ),
    # prototypes and contrast
    "prototypes": (
        "ClassMeans",
        "assignment",
        "class_means",
        "class_sums",
        "cosines",
        "distances",
        "feature_moments",
        "means_of_sums",
        "moving_average",
        "pooled_mean",
        "running_mean",
        "seen_average",
        "total_variance",
    ),
    "contrast": ("image_similarities", "pixel_prototype_contrast", "transferred_labels"),
    "multi_prototypes": (
        "Moments",
        "Prototypes",
        "centroid_similarity",
        "class_similarity",
        "gaussian_similarity",
        "moments",
        "moved",
        "only_active",
        "own_class",
        "prototype_contrast",
        "prototype_cross_entropy",
        "similarity",
    ),
    "class_bank": ("ClassBank",),
    "prototype_use": ("nearest_distances", "usage_entropy"),
    "memory_bank": ("MemoryBank",),
    "clustering": ("kmeans",),
    # teacher and consistency
    "teacher": ("follow", "frozen_copy", "growing_momentum"),
    "structure": ("distillation", "prototypical_consistency", "symmetric_divergence"),
    # mixed and masked images
    "classmix": ("classes_present", "half_of", "where_chosen"),
    "cutmix": ("half_box", "in_box", "paste", "paste_labels"),
    "masking": ("blocks", "visible"),
    # alignment of domains
    "adversarial": ("domain_loss",),
    "features": ("cell_labels", "feature_distance"),
    "directions": ("unit_vectors",),
    # telling about a model without labels
    "unlabelled": (
        "classes_kept",
        "dispersity",
        "entropies",
        "information",
        "neighbourhood_density",
        "share_divergence",
    ),
    # images, crops and resolutions
    "sampling": ("rare_class_probabilities", "rare_class_weights"),
    "next_labels": ("class_uncertainty", "farthest_first"),
    "mining": ("MiningClasses", "mined_classes", "wanted_classes"),
    "windows": ("in_windows", "inside"),
    "fusion": ("average_windows", "draw_box", "fuse_scales", "in_cells", "kept_within", "placed"),
}
_MODULES = {name: module for module, names in _TOPICS.items() for name in names}

__all__ = sorted(_MODULES)

if TYPE_CHECKING:
    from segadapt.pieces.adversarial import domain_loss as domain_loss
    from segadapt.pieces.class_bank import ClassBank as ClassBank
    from segadapt.pieces.classmix import classes_present as classes_present
    from segadapt.pieces.classmix import half_of as half_of
    from segadapt.pieces.classmix import where_chosen as where_chosen
    from segadapt.pieces.clustering import kmeans as kmeans
    from segadapt.pieces.contrast import image_similarities as image_similarities
    from segadapt.pieces.contrast import pixel_prototype_contrast as pixel_prototype_contrast
    from segadapt.pieces.contrast import transferred_labels as transferred_labels
    from segadapt.pieces.cutmix import half_box as half_box
    from segadapt.pieces.cutmix import in_box as in_box
    from segadapt.pieces.cutmix import paste as paste
    from segadapt.pieces.cutmix import paste_labels as paste_labels
    from segadapt.pieces.denoising import hard_labels as hard_labels
    from segadapt.pieces.denoising import rectified as rectified
    from segadapt.pieces.denoising import reverse_cross_entropy as reverse_cross_entropy
    from segadapt.pieces.denoising import soft_reverse_cross_entropy as soft_reverse_cross_entropy
    from segadapt.pieces.denoising import symmetric_cross_entropy as symmetric_cross_entropy
    from segadapt.pieces.directions import unit_vectors as unit_vectors
    from segadapt.pieces.features import cell_labels as cell_labels
    from segadapt.pieces.features import feature_distance as feature_distance
    from segadapt.pieces.fusion import average_windows as average_windows
    from segadapt.pieces.fusion import draw_box as draw_box
    from segadapt.pieces.fusion import fuse_scales as fuse_scales
    from segadapt.pieces.fusion import in_cells as in_cells
    from segadapt.pieces.fusion import kept_within as kept_within
    from segadapt.pieces.fusion import placed as placed
    from segadapt.pieces.losses import cross_entropy as cross_entropy
    from segadapt.pieces.losses import cross_entropy_and_entropy as cross_entropy_and_entropy
    from segadapt.pieces.losses import divergence_from_uniform as divergence_from_uniform
    from segadapt.pieces.losses import negative_log_likelihood as negative_log_likelihood
    from segadapt.pieces.losses import soft_negative_log_likelihood as soft_negative_log_likelihood
    from segadapt.pieces.margins import Margins as Margins
    from segadapt.pieces.margins import crop_margins as crop_margins
    from segadapt.pieces.margins import image_margins as image_margins
    from segadapt.pieces.masking import blocks as blocks
    from segadapt.pieces.masking import visible as visible
    from segadapt.pieces.memory_bank import MemoryBank as MemoryBank
    from segadapt.pieces.mining import MiningClasses as MiningClasses
    from segadapt.pieces.mining import mined_classes as mined_classes
    from segadapt.pieces.mining import wanted_classes as wanted_classes
    from segadapt.pieces.multi_prototypes import Moments as Moments
    from segadapt.pieces.multi_prototypes import Prototypes as Prototypes
    from segadapt.pieces.multi_prototypes import centroid_similarity as centroid_similarity
    from segadapt.pieces.multi_prototypes import class_similarity as class_similarity
    from segadapt.pieces.multi_prototypes import gaussian_similarity as gaussian_similarity
    from segadapt.pieces.multi_prototypes import moments as moments
    from segadapt.pieces.multi_prototypes import moved as moved
    from segadapt.pieces.multi_prototypes import only_active as only_active
    from segadapt.pieces.multi_prototypes import own_class as own_class
    from segadapt.pieces.multi_prototypes import prototype_contrast as prototype_contrast
    from segadapt.pieces.multi_prototypes import prototype_cross_entropy as prototype_cross_entropy
    from segadapt.pieces.multi_prototypes import similarity as similarity
    from segadapt.pieces.next_labels import class_uncertainty as class_uncertainty
    from segadapt.pieces.next_labels import farthest_first as farthest_first
    from segadapt.pieces.optimal_transport import class_balanced_sample as class_balanced_sample
    from segadapt.pieces.optimal_transport import class_masses as class_masses
    from segadapt.pieces.optimal_transport import class_shares as class_shares
    from segadapt.pieces.optimal_transport import equipartition as equipartition
    from segadapt.pieces.optimal_transport import greenkhorn as greenkhorn
    from segadapt.pieces.optimal_transport import sinkhorn as sinkhorn
    from segadapt.pieces.optimal_transport import sinkhorn_with_bank as sinkhorn_with_bank
    from segadapt.pieces.priors import apply_prior as apply_prior
    from segadapt.pieces.priors import resize_prior as resize_prior
    from segadapt.pieces.priors import spatial_prior as spatial_prior
    from segadapt.pieces.prototype_use import nearest_distances as nearest_distances
    from segadapt.pieces.prototype_use import usage_entropy as usage_entropy
    from segadapt.pieces.prototypes import ClassMeans as ClassMeans
    from segadapt.pieces.prototypes import assignment as assignment
    from segadapt.pieces.prototypes import class_means as class_means
    from segadapt.pieces.prototypes import class_sums as class_sums
    from segadapt.pieces.prototypes import cosines as cosines
    from segadapt.pieces.prototypes import distances as distances
    from segadapt.pieces.prototypes import feature_moments as feature_moments
    from segadapt.pieces.prototypes import means_of_sums as means_of_sums
    from segadapt.pieces.prototypes import moving_average as moving_average
    from segadapt.pieces.prototypes import pooled_mean as pooled_mean
    from segadapt.pieces.prototypes import running_mean as running_mean
    from segadapt.pieces.prototypes import seen_average as seen_average
    from segadapt.pieces.prototypes import total_variance as total_variance
    from segadapt.pieces.pseudo_labels import confidence_and_prediction as confidence_and_prediction
    from segadapt.pieces.pseudo_labels import confident_labels as confident_labels
    from segadapt.pieces.pseudo_labels import select as select
    from segadapt.pieces.pseudo_labels import soft_labels as soft_labels
    from segadapt.pieces.sampling import rare_class_probabilities as rare_class_probabilities
    from segadapt.pieces.sampling import rare_class_weights as rare_class_weights
    from segadapt.pieces.structure import distillation as distillation
    from segadapt.pieces.structure import prototypical_consistency as prototypical_consistency
    from segadapt.pieces.structure import symmetric_divergence as symmetric_divergence
    from segadapt.pieces.teacher import follow as follow
    from segadapt.pieces.teacher import frozen_copy as frozen_copy
    from segadapt.pieces.teacher import growing_momentum as growing_momentum
    from segadapt.pieces.terms import Term as Term
    from segadapt.pieces.thresholds import ClassThresholds as ClassThresholds
    from segadapt.pieces.unlabelled import classes_kept as classes_kept
    from segadapt.pieces.unlabelled import dispersity as dispersity
    from segadapt.pieces.unlabelled import entropies as entropies
    from segadapt.pieces.unlabelled import information as information
    from segadapt.pieces.unlabelled import neighbourhood_density as neighbourhood_density
    from segadapt.pieces.unlabelled import share_divergence as share_divergence
    from segadapt.pieces.windows import in_windows as in_windows
    from segadapt.pieces.windows import inside as inside

if not TYPE_CHECKING:  # hidden from type checkers, so that they report a misspelt name
    __getattr__, __dir__ = on_demand(__name__, _MODULES)
