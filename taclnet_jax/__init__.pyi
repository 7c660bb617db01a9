from .attention import STAOutput as STAOutput
from .attention import blockwise_attention as blockwise_attention
from .attention import dense_attention as dense_attention
from .attention import iterative_attention as iterative_attention
from .attention import sta_attention as sta_attention
from .attention import topological_attention as topological_attention
from .inference import load as load
from .topology import PersistencePairs as PersistencePairs
from .topology import critical_map as critical_map
from .topology import critical_points as critical_points
from .topology import persistence_diagram as persistence_diagram
from .topology import persistence_pairs as persistence_pairs

__version__: str
