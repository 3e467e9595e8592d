// Serves one of two small registries that are neither Distribution's nor ours, in memory, on a port the system gives:
//
//	test-registry go-containerregistry   google/go-containerregistry, with its referrers API
//	test-registry ociregistry            cuelabs.dev/go/oci/ociregistry
//	test-registry immutable              the same, with immutable tags
//
// It prints its address on its first line, and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/registry"
)

func handler(name string) http.Handler {
	switch name {
	case "go-containerregistry":
		quiet := registry.Logger(log.New(io.Discard, "", 0))
		return registry.New(quiet, registry.WithReferrersSupport(true))
	case "ociregistry":
		return ociserver.New(ocimem.New(), nil)
	case "immutable":
		return ociserver.New(ocimem.NewWithConfig(&ocimem.Config{ImmutableTags: true}), nil)
	}
	log.Fatalf("no such registry: %q", name)
	return nil
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: test-registry go-containerregistry|ociregistry|immutable")
	}
	served := handler(os.Args[1])
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, served))
}
