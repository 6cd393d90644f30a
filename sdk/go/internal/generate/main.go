// Command generate writes the Go code of proto/flowbot_plugin.proto, for this SDK and for the fixture plugin that stands without it.
//
// It needs neither protoc nor buf: the compiler is a Go library, and the two code generators are tools of this module, pinned in its
// go.mod. The module is apart from the SDK's, so that plugins do not inherit what only the generation needs.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/pluginpb"
)

const protoFile = "flowbot_plugin.proto"

// targets are the folders, against the repository's, that hold a copy of the code.
var targets = []string{"sdk/go/internal/pb", "tests/plugins/go/plain/pb"}

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("give the repository's folder as the only argument"))
	}
	root := os.Args[1]
	for _, target := range targets {
		files, err := generate(filepath.Join(root, "proto"), target)
		if err != nil {
			fail(err)
		}
		for name, text := range files {
			path := filepath.Join(root, target, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				fail(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				fail(err)
			}
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "generate:", err)
	os.Exit(1)
}

// generate returns the generated files of one target by name.
func generate(protoFolder, target string) (map[string]string, error) {
	request, err := request(protoFolder, target)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, tool := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		answer, err := run(tool, request)
		if err != nil {
			return nil, err
		}
		for _, file := range answer.File {
			files[file.GetName()] = file.GetContent()
		}
	}
	return files, nil
}

// request is what protoc would give a code generator.
func request(protoFolder, target string) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{protoFolder}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), protoFile)
	if err != nil {
		return nil, err
	}
	parameter := "paths=source_relative,M" + protoFile + "=github.com/flowplug/flowplug/" + target + ";pb"
	return proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{protoFile},
		Parameter:      &parameter,
		ProtoFile: []*descriptorpb.FileDescriptorProto{
			protodesc.ToFileDescriptorProto(emptypb.File_google_protobuf_empty_proto),
			protodesc.ToFileDescriptorProto(compiled[0]),
		},
	})
}

// run hands the request to one of this module's tools.
func run(tool string, request []byte) (*pluginpb.CodeGeneratorResponse, error) {
	command := exec.Command("go", "tool", tool)
	command.Stdin = bytes.NewReader(request)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool %s: %w", tool, err)
	}
	answer := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out, answer); err != nil {
		return nil, fmt.Errorf("go tool %s: %w", tool, err)
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("go tool %s: %s", tool, answer.GetError())
	}
	return answer, nil
}
