"""What a run needs, before it is started."""

from mindllm.plan.checks import check_batches as check_batches
from mindllm.plan.checks import with_vocabulary as with_vocabulary
from mindllm.plan.hardware import HardwareConfig as HardwareConfig
from mindllm.plan.show import print_plan as print_plan
