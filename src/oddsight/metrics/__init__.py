"""Exact metrics on raw scores, with intervals."""

from oddsight.metrics.image import Decision as Decision
from oddsight.metrics.image import auroc as auroc
from oddsight.metrics.image import average_precision as average_precision
from oddsight.metrics.image import binomial_interval as binomial_interval
from oddsight.metrics.image import bootstrap_interval as bootstrap_interval
from oddsight.metrics.image import check_confidence as check_confidence
from oddsight.metrics.image import decision as decision
from oddsight.metrics.image import f1_max as f1_max
from oddsight.metrics.image import fpr_at_tpr as fpr_at_tpr
from oddsight.metrics.image import trivial_baseline_auroc as trivial_baseline_auroc
