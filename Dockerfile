# GO_IMAGE may be any image with Go and CA certificates.
ARG GO_IMAGE=golang:1.26
FROM ${GO_IMAGE} AS build
ARG GOPROXY
ARG RELEASE
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.release=${RELEASE}" -o /out/invalidator ./cmd/invalidator \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
 && install -d -m 1777 /out/tmp

# The program, the system's authorities for tls: {}, and a /tmp where http.socket can be. No shell: the commands for a running
# daemon are those of the program, as in "docker exec CONTAINER /invalidator status". Mount the configuration at
# /etc/invalidator/invalidator.yaml. A stop by SIGTERM takes 5 seconds at the most and gives the lease up.
FROM scratch
COPY --from=build /out /
USER 65532:65532
EXPOSE 8377
ENTRYPOINT ["/invalidator"]
CMD ["run"]
