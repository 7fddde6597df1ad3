"""Millions of images: planned into shards, scored by any engine, kept as Parquet."""

from oddsight.scale.batch import Batch as Batch
from oddsight.scale.batch import predict_batch as predict_batch
from oddsight.scale.engines import use_engine as use_engine
from oddsight.scale.ray_executor import RayExecutor as RayExecutor
from oddsight.scale.summary import Summary as Summary
from oddsight.scale.summary import summarize as summarize
