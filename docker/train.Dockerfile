# Data, training, evaluation and serving: docker build -f docker/train.Dockerfile -t roboref-train .
# The full Debian image has the compiler and the headers that the set-up needs.
FROM python:3.12-bookworm

WORKDIR /roboref
# PyTorch's wheel carries its own CUDA; the host needs the driver and the container toolkit.
COPY setup setup
COPY pyproject.toml LICENSE ./
COPY ros2_ws/src ros2_ws/src
COPY sim sim
COPY offline offline
ENV PIP_NO_CACHE_DIR=1
RUN setup/setup.sh full

ENTRYPOINT ["/bin/bash", "-c", "source setup/env.sh && exec \"$@\"", "--"]
CMD ["roboref", "--help"]
