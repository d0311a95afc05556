# Operator and agent: static binaries, the certificate authorities, and nothing else.
ARG BASE
FROM ${BASE} AS certificates

FROM scratch
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY operator agent /
USER 65532:65532
ENTRYPOINT ["/operator"]
