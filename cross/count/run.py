"""onnxruntime's side of count.sh: MODEL, RUNS. One thread, a grey picture."""

import sys

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
picture = session.get_inputs()[0]
for _ in range(int(sys.argv[2])):
    session.run(None, {picture.name: numpy.zeros(picture.shape, numpy.float32)})
