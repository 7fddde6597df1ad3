"""The public names of Oddsight and their modules. A new one takes one line here; nothing else lists them."""

from .data.check import check as check
from .data.decoding import set_image_limits as set_image_limits
from .data.prepare import Preparation as Preparation
from .data.prepare import prepare as prepare
from .data.reading import Reading as Reading
from .data.synthesis import synthesize as synthesize
from .data.synthetic_sets import write_synthetic as write_synthetic
from .errors import DataError as DataError
from .errors import ImageError as ImageError
from .errors import MemoryBudgetError as MemoryBudgetError
from .errors import ModelError as ModelError
from .errors import OddsightError as OddsightError
from .evaluation import evaluate as evaluate
from .evaluation.classes import ClassEvaluation as ClassEvaluation
from .evaluation.classes import evaluate_classes as evaluate_classes
from .evaluation.compare import Comparison as Comparison
from .evaluation.compare import compare as compare
from .evaluation.normal import Evaluation as Evaluation
from .fitting.classes import fit_classes as fit_classes
from .fitting.exporting import Export as Export
from .fitting.exporting import Parity as Parity
from .fitting.exporting import export as export
from .fitting.normal import fit as fit
from .model.model import Model as Model
from .model.model import load as load
from .model.normals import NormalImages as NormalImages
from .model.normals import normals_path as normals_path
from .model.normals import write_normals as write_normals
from .model.regions import Region as Region
from .model.result import Result as Result
from .runtime.sessions import available_devices as available_devices
from .runtime.sessions import set_device as set_device
from .scenes import predict_scene as predict_scene
from .scenes import write_tiles as write_tiles
from .sinks.prediction import predict as predict
from .sinks.sink import Prediction as Prediction
from .sinks.sink import Run as Run
from .sinks.sink import Sink as Sink
from .sinks.sink import Totals as Totals
from .sources.frame import Frame as Frame
from .sources.source import Source as Source
from .training.adapting import Adaptation as Adaptation
from .training.adapting import adapt as adapt

__version__: str
