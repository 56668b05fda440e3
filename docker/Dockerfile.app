# The application of compose.yaml and of the tests: echo server, client and load.
#
# docker/build makes the context, which contains only the copied files.
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12
FROM ${BASE_IMAGE}

COPY app /usr/local/bin/app

LABEL org.opencontainers.image.title="pilot/app" \
      org.opencontainers.image.description="An application to try the mesh with" \
      org.opencontainers.image.licenses="Apache-2.0"

USER 65534:65534
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/app"]
CMD ["serve", "app", "0.0.0.0:7001", "0.0.0.0:7002"]
