// A Dagger program in Go: build, exec, service binding and export. Usage: main BASE.tar OUT
package main

import (
	"context"
	"fmt"
	"os"

	"dagger.io/dagger"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	ctx := context.Background()
	client := must(dagger.Connect(ctx, dagger.WithLogOutput(os.Stderr)))
	defer client.Close()
	base := client.Container().Import(client.Host().File(os.Args[1]))
	fmt.Print(must(base.WithEnvVariable("NAME", "pocket").WithExec([]string{"sh", "-c", "echo hello $NAME"}).Stdout(ctx)))
	_, err := base.WithExec([]string{"sh", "-c", "echo why >&2; exit 3"}).Sync(ctx)
	failed, ok := err.(*dagger.ExecError)
	fmt.Println("error:", ok, failed.ExitCode, failed.Stderr)
	source := client.Directory().WithNewFile("Dockerfile", "FROM scratch\nARG V=0\nLABEL version=$V\nCOPY f /f\n").WithNewFile("f", "content")
	image := source.DockerBuild(dagger.DirectoryDockerBuildOpts{BuildArgs: []dagger.BuildArg{{Name: "V", Value: "1.2"}}})
	labels := must(image.Labels(ctx))
	fmt.Println("label:", must(labels[0].Name(ctx)), must(labels[0].Value(ctx)))
	web := base.WithExposedPort(8080).AsService(dagger.ContainerAsServiceOpts{Args: []string{"sh", "-c",
		"while true; do printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nserved' | nc -l -p 8080; done"}})
	out := must(base.WithServiceBinding("web", web).WithExec([]string{"sh", "-c",
		"for i in 1 2 3 4 5; do wget -qO- http://web:8080/ && exit 0; done; exit 1"}).Stdout(ctx))
	fmt.Println("service:", out)
	fmt.Println("exported:", must(source.Export(ctx, os.Args[2])))
	fmt.Println("all ok")
}
