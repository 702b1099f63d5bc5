package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// writeImages makes an OCI archive of images that hold one statically linked BusyBox and a link for each of its
// applets. They share the layer and differ in what they run:
//
//	kubebox image ARCHIVE BUSYBOX REFERENCE[=COMMAND] ...
//
// containerd imports such an archive with `ctr images import`, which spares a registry.
func writeImages(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: kubebox image ARCHIVE BUSYBOX REFERENCE[=COMMAND] ...")
	}
	layer, err := busyboxLayer(args[1])
	if err != nil {
		return err
	}
	var archive layout
	archive.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	layerBlob := archive.blob("application/vnd.oci.image.layer.v1.tar", layer)
	var manifests []descriptor
	for _, image := range args[2:] {
		reference, command, _ := strings.Cut(image, "=")
		manifest := archive.image(layerBlob, strings.Fields(command))
		manifest.Annotations = map[string]string{"io.containerd.image.name": reference}
		manifest.Platform = &platform{runtime.GOARCH, "linux"}
		manifests = append(manifests, manifest)
	}
	archive.write("index.json", encode(index{2, "application/vnd.oci.image.index.v1+json", manifests}))
	content, err := archive.close()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], content, 0o644)
}

// The parts of the OCI image specification that an archive needs.
type (
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}
	index struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}
	config struct {
		platform
		Config struct {
			Env        []string `json:"Env"`
			Entrypoint []string `json:"Entrypoint,omitempty"`
		} `json:"config"`
		RootFS struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
)

// busyboxLayer is a root filesystem: the binary, its applets' links, and the few files that programs look for.
func busyboxLayer(busybox string) ([]byte, error) {
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", busybox, err)
	}
	var root layout
	for _, name := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "var"} {
		root.add(tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	root.add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	root.write("etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nworker:x:10001:10001:worker:/tmp:/bin/sh\n"))
	root.write("etc/group", []byte("root:x:0:\nworker:x:10001:\n"))
	root.add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, binary)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			root.add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	return root.close()
}

// layout is a tar archive in memory without times or owners, so that equal content gives equal digests.
type layout struct {
	buffer bytes.Buffer
	writer *tar.Writer
	err    error
}

func (l *layout) add(header tar.Header, content []byte) {
	if l.writer == nil {
		l.writer = tar.NewWriter(&l.buffer)
	}
	header.Size = int64(len(content))
	if l.err == nil {
		l.err = l.writer.WriteHeader(&header)
	}
	if l.err == nil {
		_, l.err = l.writer.Write(content)
	}
}

func (l *layout) write(name string, content []byte) {
	l.add(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content)
}

func (l *layout) blob(mediaType string, content []byte) descriptor {
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	l.write("blobs/sha256/"+sum, content)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(content)}
}

func (l *layout) image(layer descriptor, entrypoint []string) descriptor {
	var c config
	c.platform = platform{runtime.GOARCH, "linux"}
	c.Config.Env = []string{"PATH=/bin"}
	c.Config.Entrypoint = entrypoint
	c.RootFS.Type = "layers"
	c.RootFS.DiffIDs = []string{layer.Digest}
	configBlob := l.blob("application/vnd.oci.image.config.v1+json", encode(c))
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	return l.blob(mediaType, encode(manifest{2, mediaType, configBlob, []descriptor{layer}}))
}

func (l *layout) close() ([]byte, error) {
	if l.err == nil {
		l.err = l.writer.Close()
	}
	return l.buffer.Bytes(), l.err
}

func encode(value any) []byte {
	content, err := json.Marshal(value)
	if err != nil {
		panic(err) // only types that JSON cannot express fail, and none is passed
	}
	return content
}
