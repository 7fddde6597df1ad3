"""The public names of Oddsight and their modules. A new one takes one line here; nothing else lists them."""

from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .datasets.check import check as check
from .decoding import set_image_limits as set_image_limits
from .errors import DataError as DataError
from .errors import ImageError as ImageError
from .errors import MemoryBudgetError as MemoryBudgetError
from .errors import ModelError as ModelError
from .errors import OddsightError as OddsightError
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .fitting import fit as fit
from .labelled.evaluation import ClassEvaluation as ClassEvaluation
from .labelled.evaluation import evaluate_classes as evaluate_classes
from .labelled.fitting import fit_classes as fit_classes
from .model import Model as Model
from .model import load as load
from .networks.adapting import Adaptation as Adaptation
from .networks.adapting import adapt as adapt
from .normals import NormalImages as NormalImages
from .normals import normals_path as normals_path
from .normals import write_normals as write_normals
from .preparing import Preparation as Preparation
from .preparing import prepare as prepare
from .reading import Reading as Reading
from .result import Region as Region
from .result import Result as Result
from .scenes import predict_scene as predict_scene
from .scenes import write_tiles as write_tiles
from .synthesis import synthesize as synthesize
from .synthesizing import write_synthetic as write_synthetic

__version__: str
