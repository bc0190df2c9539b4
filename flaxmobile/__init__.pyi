"""Public names of flaxmobile, each with the module that it is imported from when first used."""

from convert.published.loading import load_pretrained as load_pretrained
from flaxmobile.detection import detect_faces as detect_faces
from flaxmobile.detection import detect_objects as detect_objects
from flaxmobile.dilation_search import load_dilations as load_dilations
from flaxmobile.dilation_search import save_dilations as save_dilations
from flaxmobile.dilation_search import search_dilations as search_dilations
from flaxmobile.errors import InputError as InputError
from flaxmobile.exporters.exporting import export as export
from flaxmobile.exporters.stablehlo import ExportedProgram as ExportedProgram
from flaxmobile.exporters.stablehlo import load_exported as load_exported
from flaxmobile.folding import fold_batch_norm as fold_batch_norm
from flaxmobile.inference import jit_inference as jit_inference
from flaxmobile.preprocessing import Preprocessing as Preprocessing
from flaxmobile.registry import create_backbone as create_backbone
from flaxmobile.registry import create_model as create_model
from flaxmobile.registry import list_models as list_models
from flaxmobile.summary import Summary as Summary
from flaxmobile.summary import summarize as summarize
from flaxmobile.tasks import create_detector as create_detector
from flaxmobile.tasks import create_segmenter as create_segmenter
from flaxmobile.variables import init as init
from flaxmobile.versions import __version__ as __version__
from flaxmobile.weights import Metadata as Metadata
from flaxmobile.weights import load_metadata as load_metadata
from flaxmobile.weights import load_weights as load_weights
from flaxmobile.weights import save_weights as save_weights
